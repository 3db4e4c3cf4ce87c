"""From a file to a result: scaling, windows, the model, targets."""

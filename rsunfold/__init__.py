"""rsunfold: remote-sensing image processing with deep unfolding networks."""

__version__ = "0.1.0"

"""``python -m rsunfold``."""

from rsunfold.cli import main

main()

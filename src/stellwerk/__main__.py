"""The command ``stellwerk``, also as ``python -m stellwerk``."""

import gc

# Nothing of what is imported is garbage, now or later: looking for some would be a fifth of the start.
gc.disable()

from stellwerk.cli import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()

"""What each of several processes does with the command line; started by torchrun, see test_launched.py."""

import json
import operator
import os
import signal
import sys
import threading
import time
from pathlib import Path

from clarkia.cli import main


def hasten(put):
    """Make models small, and look at few rows when a fit is validated.

    Args:
        put: put(dictionary, key, value) sets an entry.
    """
    from clarkia.models import image, table, table_fit, text

    sizes = {table.TableModel: {"width": 32}, text.TextModel: {"width": 32}, image.ImageModel: {"width": 16}}
    for model, size in sizes.items():
        for name, value in (size | {"depth": 1}).items():
            put(model.__init__.__kwdefaults__, name, value)
    put(vars(table_fit), "VALIDATION_DRAWS", 64)


def wait_for(path):
    """Wait until there is a file."""
    while not Path(path).exists():
        time.sleep(0.02)


def die_with(path):
    """End this process without a word once there is a file."""
    wait_for(path)
    os.kill(os.getpid(), signal.SIGKILL)


def run(commands):
    """Run commands one after the other, each once all processes are through with the one before.

    Of the last one the second process does not see the end, and the first leaves its status in a file.
    """
    main(["--version"])  # before torch is imported, as it is where the program is started by itself
    import torch.distributed as dist

    from clarkia.training import TrainingOptions

    hasten(operator.setitem)
    *whole, lost = commands
    second = os.environ["RANK"] == "1"
    for command in whole:
        if second and "--holdout-share" in command:
            wait_for("people.holdout.parquet")  # come late, when the main process has written the parts of the table
        status = main(command)
        if status:
            sys.exit(status)
        if dist.is_initialized():
            dist.barrier()
    (TrainingOptions.__init__.__kwdefaults__ or {})["checkpoint_minutes"] = 0.0  # after every step
    if second:
        threading.Thread(target=die_with, args=["lost.clarkia.checkpoint"], daemon=True).start()
    Path("status").write_text(str(main(lost)))
    sys.exit(1)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))

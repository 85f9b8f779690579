"""What a long run owes whoever waits for it: a progress bar, and a Ctrl-C that loses nothing."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupt_between_steps() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C only makes the function that is handed out return True.

    So no step is left half done. The second Ctrl-C interrupts at once. Where Ctrl-C has another
    meaning than to interrupt Python, and in threads, which never get it, nothing changes.
    """
    received = []

    def remember(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    in_main_thread = threading.current_thread() is threading.main_thread()
    is_ours = in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(received)
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class NotebookLine:
    """A file for a progress bar: in a notebook each text replaces the one before."""

    def __init__(self) -> None:
        from IPython.display import display

        self.line: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if text.strip():
            self.line.update({"text/plain": text.strip()}, raw=True)

    def flush(self) -> None:
        """Every text is shown at once."""


@contextmanager
def progress_bar(
    is_shown: bool,
    done: int,
    total: int | None,
    what: str = "training",
    unit: str = "step",
    scale: int = 1,
) -> Iterator[Callable[[int | None, str], None]]:
    """A bar on standard output, and a function to call after a step: steps in all, and a text.

    total: None where nobody knows it. scale: how many units a step is.
    """
    if not is_shown:
        yield lambda total, text: None
        return
    from tqdm import tqdm

    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    with tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=unit,
        unit_scale=scale if scale > 1 else False,
        file=NotebookLine() if in_notebook else sys.stdout,
        # A terminal redraws its bar in place; a log file keeps each one, so few of them there.
        mininterval=0.3 if in_notebook or sys.stdout.isatty() else 10,
        ncols=100,
    ) as bar:

        def show(total: int | None, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.total = total  # a stage may have ended early
            bar.update()

        yield show

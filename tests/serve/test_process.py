import asyncio
import os
import signal
import subprocess
import sys

import pytest

from serve.process import event_loop_factory, run_until_signalled


def test_answers_what_the_main_coroutine_answers_on_the_fast_loop() -> None:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    factory = event_loop_factory()
    expected = "asyncio.unix_events" if factory is None else "uvloop"
    assert run_until_signalled(main()) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_calls_stop_or_cancels(number: signal.Signals) -> None:
    async def endless() -> str:
        os.kill(os.getpid(), number)
        await asyncio.sleep(60)
        return "never"

    assert run_until_signalled(endless()) is None
    stopped = asyncio.Event()

    async def stoppable() -> str:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stopped.wait(), 10)
        return "in good order"

    assert run_until_signalled(stoppable(), stopped.set) == "in good order"


def test_errors_come_through() -> None:
    async def main() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        run_until_signalled(main())


def test_serving_never_imports_what_only_training_needs() -> None:
    program = (
        "import sys, pkgutil, importlib, serve, serve.commands\n"
        "names = [m.name for m in pkgutil.walk_packages(serve.__path__, 'serve.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "found = {'torch', 'onnx', 'sklearn', 'safetensors', 'matplotlib'} & set(sys.modules)\n"
        "assert len(names) > 20 and not found, found\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

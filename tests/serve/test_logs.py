import logging
import subprocess
import sys

from serve.logs import OneLineFormatter


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = logging.LogRecord("serve.feed", logging.ERROR, "", 0, "lost\r\nit", (), sys.exc_info())
    line = OneLineFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert " ERROR serve.feed: lost | it | Traceback" in line
    assert line.endswith("ValueError: first | second")


def test_levels_apply_to_this_program_and_libraries_only_warn() -> None:
    program = (
        "import logging; from serve.logs import configure_logging; configure_logging('info');"
        "logging.getLogger('serve.feed').info('ours'); logging.getLogger('serve.feed').debug('detail');"
        "theirs = logging.getLogger('uvicorn.error'); theirs.info('theirs'); theirs.error('trouble')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("INFO serve.feed: ours")
    assert lines[1].endswith("ERROR uvicorn.error: trouble")

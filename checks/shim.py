"""Calls one function of a check.

usage: python3 call.py FILE FUNCTION VALUE

The keyword arguments come as a JSON object on standard input. What the function
returns is written to the file VALUE as JSON, or as the text of it when JSON has
no word for it. Whatever it raises ends the program with 1 and a traceback.
"""
import importlib.machinery
import importlib.util
import json
import os
import sys
import traceback


def fail(message):
    sys.stderr.write(message + "\n")
    sys.exit(1)


def read_arguments():
    kwargs = json.loads(sys.stdin.buffer.read().decode("utf-8"))
    # The function must not wait for input that never comes.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    return kwargs


def load(path):
    if not os.path.isfile(path):
        fail("cannot find the file %s: write a file beside the formula" % path)
    # The check's own modules come first, as if its file had been started.
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    sys.argv = [path]
    name = os.path.splitext(os.path.basename(path))[0]
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def find(module, path, name):
    function = getattr(module, name, None)
    if not callable(function):
        have = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        fail("cannot find the function %s in %s: it has %s" % (name, path, ", ".join(have) or "none"))
    return function


def write(path, value):
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(str(value))
    with open(path + ".part", "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(path + ".part", path)


def explain(error):
    """Prints a traceback that begins in the check's own code."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_code.co_filename.startswith((__file__, "<frozen importlib")):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)


def main():
    path, name, target = sys.argv[1:4]
    sys.dont_write_bytecode = True
    kwargs = read_arguments()
    try:
        value = find(load(path), path, name)(**kwargs)
    except SystemExit as end:
        if end.code:
            raise
        value = None
    except BaseException as error:
        explain(error)
        sys.exit(1)
    write(target, value)


if __name__ == "__main__":
    main()

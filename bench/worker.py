"""Libraries in processes of their own: some need other environments, and none disturbs another.

``python -m bench.worker`` makes what a Worker asks it for, and answers its calls over pipes. It
imports NumPy and the one library, so that any environment with these will do.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench import cases, store
from bench.clock import Contestant


class Kind:
    """What is compared: a class, and `train(units)` of what it makes of a row does the work.

    most : units that one call of `train` may do. only_trains : it gives no derivatives.
    """

    name = package = ""
    environment = None  # a folder that `make bench-peers` makes
    variables = ()  # of its process's environment
    only_trains, most = True, 1 << 62

    @classmethod
    def missing(cls):
        """Return what is missing before it can run, or None."""
        if cls.environment is not None:
            here = Path(cls.environment, "bin/python").exists()
            return None if here else f"{cls.environment} (`make bench-peers`)"
        return None if importlib.util.find_spec(cls.package) else cls.package

    @classmethod
    def takes(cls, row):
        """Return whether it can do what a row asks for."""
        return True


class Worker:
    """A library's subject in another process, with its methods; a contestant for `clock.race`.

    start : CPU seconds from the start of the process to the end of its first step; to make the
    samples is not counted.
    """

    def __init__(self, library, row):
        python, variables = sys.executable, dict(os.environ)
        if library.environment:
            python = Path(library.environment, "bin/python")
            variables = {k: v for k, v in variables.items() if k != "PYTHONPATH"}
        options = {"cwd": store.ROOT, "env": variables | dict(library.variables)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([python, "-m", __name__], **options, **pipes)
        self.name, self.only_trains = library.name, library.only_trains
        self.start, self.most = self._ask("begin", library.__module__, library.__name__, row)

    def _ask(self, method, *arguments):
        try:
            _send(self.process.stdin, (method, arguments))
            failed, result = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"{self.name}: its process has ended") from None
        if failed:
            raise RuntimeError(f"{self.name}: {result}")
        return result

    def __getattr__(self, method):
        if method not in ("predict", "gradient", "train", "parameters", "result"):
            raise AttributeError(method)
        return lambda *arguments: self._ask(method, *arguments)

    def go_on(self):
        """Take all samples instead of the few that are checked."""
        self.most = self._ask("go_on")

    def seconds(self, units, calls, clock):
        """Return the seconds of so many calls of ``train(units)``, by the process's own clock."""
        return self._ask("seconds", units, calls, clock.__name__)

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Subject:
    """The other end of a Worker."""

    def begin(self, module, library, row):
        start = time.process_time()
        self.data = cases.problem(row) if isinstance(row, cases.Case) else row
        made = time.process_time()
        self.library = getattr(importlib.import_module(module), library)
        self._take(few := getattr(self.data, "few", self.data))
        self.subject.train(1)
        seconds = time.process_time() - (made - start)
        return seconds, self._take(few)

    def _take(self, data):
        self.subject = self.library(data)
        return self.subject.most

    def go_on(self):
        return self._take(self.data)

    def seconds(self, units, calls, clock):
        turn = Contestant(self.subject.name, self.subject.train, self.subject.most)
        return turn.seconds(units, calls, getattr(time, clock))

    def predict(self):
        return np.asarray(self.subject.predict())

    def __getattr__(self, method):
        return getattr(self.subject, method)


def _send(pipe, message):
    pickle.dump(message, pipe)
    pipe.flush()


def main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    subject = Subject()
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = False, getattr(subject, method)(*arguments)
        except Exception as error:
            answer = True, f"{type(error).__name__}: {error}"
        _send(answers, answer)


if __name__ == "__main__":
    main()

"""``pytest bench/``: one core for everybody, and a table of claims at the end."""

import pytest

from bench import limits

limits.hold(1)  # before anything that computes is imported

from bench.claims import Report  # noqa: E402


def pytest_configure(config):
    """The peers' warnings are theirs."""
    config.addinivalue_line("filterwarnings", "default")


@pytest.fixture(scope="session")
def report(request):
    """What every benchmark adds its measurements to."""
    request.config.cheap_gradient = found = Report()
    return found


def pytest_terminal_summary(terminalreporter):
    """Print the claims, and write the report."""
    found = getattr(terminalreporter.config, "cheap_gradient", None)
    if found is not None and (found.rows or found.circuits):
        terminalreporter.section("claims")
        for line in found.finish():
            terminalreporter.write_line(line)


def pytest_sessionfinish(session):
    """A claim that does not hold is a failure of the run, unless parts of it were left out."""
    found = getattr(session.config, "cheap_gradient", None)
    if found is not None and any(claim.holds is False for claim in found.claims()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

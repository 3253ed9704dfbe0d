"""``pytest bench/``: one core for all, group after group, and the claims at the end."""

from pathlib import Path

import pytest

from bench import limits

limits.hold(1)  # before anything that computes is imported

from bench import groups, report, store  # noqa: E402
from bench.claims import Claims  # noqa: E402

CLAIMS = pytest.StashKey[Claims]()


def pytest_addoption(parser):
    group = parser.getgroup("bench")
    group.addoption("--results", type=Path, default=store.FOLDER, help="folder for claims.json")
    group.addoption("--full", action="store_true", help="the full grid, and other libraries")
    text = "whether a claim that does not hold fails the run, or is printed only"
    group.addoption("--claims", choices=["check", "report"], default="check", help=text)


def pytest_configure(config):
    config.stash[CLAIMS] = Claims(config.getoption("claims") == "report")


def pytest_generate_tests(metafunc):
    """Take every `group`, `member` of each, `ratio` that is claimed of each."""
    if "group" in metafunc.fixturenames:
        every = groups.grid(metafunc.config.getoption("full"))
        for name, of_group in (("member", "members"), ("ratio", "ratios")):
            if name in metafunc.fixturenames:
                pairs = [(group, each) for group in every for each in getattr(group, of_group)]
                ids = [f"{group.title}-{each}" for group, each in pairs]
                metafunc.parametrize(("group", name), pairs, ids=ids)
                return
        metafunc.parametrize("group", every, ids=[group.title for group in every])


def pytest_collection_modifyitems(items):
    """Keep together what looks at one network or circuit, whose memory is given back after it."""
    order = {}
    for item in items:
        order.setdefault(group_of(item), len(order))
    items.sort(key=lambda item: order[group_of(item)])


def pytest_runtest_teardown(item, nextitem):
    group = group_of(item)
    if group is not None and (nextitem is None or group_of(nextitem) is not group):
        group.forget()


def group_of(item):
    """Return the group that a test is about, or None."""
    return item.callspec.params.get("group") if hasattr(item, "callspec") else None


@pytest.fixture
def claims(pytestconfig):
    """What every claim is checked by."""
    if pytestconfig.getoption("benchmark_disable"):
        pytest.skip("claims are about times")
    return pytestconfig.stash[CLAIMS]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    """Print the claims after everything else, and keep the results."""
    config = terminalreporter.config
    claims = config.stash[CLAIMS]
    if claims.all:
        measured = [group for group in groups.grid(config.getoption("full")) if group.measured]
        terminalreporter.section("claims")
        for line in [*claims.table(), *report.keep(claims, measured, config.getoption("results"))]:
            terminalreporter.write_line(line)

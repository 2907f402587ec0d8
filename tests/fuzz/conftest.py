"""Prints at the end what all tries of the fuzz tests came to."""

import harness


def pytest_terminal_summary(terminalreporter):
    """Adds a line with the number of tries, of accepted and of refused files, and of faults."""
    total = harness.TOTAL
    if total:
        faults = sum(total.faults().values())
        tries = total["accepted"] + total["refused"] + faults
        terminalreporter.write_line(
            f"fuzz: {tries} tries, {total['accepted']} accepted, {total['refused']} refused, {faults} faults"
        )

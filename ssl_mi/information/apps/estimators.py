"""`ssl-mi estimators [NAME]`: what there is, what each number means, when to use it."""

from __future__ import annotations

import argparse

from ssl_mi.information.apps.status import exit_status

ABOUT = "The estimators of mutual information by name: what the number of each means and when to use it."
MORE = """\
examples
  ssl-mi estimators          a table of all of them
  ssl-mi estimators ksg      the mathematics and the settings of one

To use one: ssl-mi estimate x.npy y.npy --estimator ksg:k=10"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its arguments.

    Args:
        parser: of `ssl-mi estimators`, changed in place.
    """
    parser.description, parser.epilog = ABOUT, MORE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("name", nargs="?", metavar="NAME", help="describe this one: its mathematics and settings")


@exit_status
def run(arguments: argparse.Namespace) -> int:
    """Print the table, or the description of one, and return the exit status."""
    from ssl_mi.information.apps import catalogue, render

    if arguments.name is None:
        render.show_catalogue()
        return 0
    try:
        function = catalogue.find_estimator(arguments.name)
    except ValueError as problem:
        arguments.wrong_usage(str(problem))
    render.show_estimator(arguments.name, function)
    return 0

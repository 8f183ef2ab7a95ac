"""What `launch` is told on the command line."""

import argparse


def add(make: argparse.ArgumentParser) -> None:
    """Add what `launch` takes to its parser."""
    make.add_argument("--workers", type=int, required=True, help="processes on this host")
    make.add_argument(
        "--hosts", default="", metavar="A,B", help="all hosts, the chief's first; run the same on each"
    )
    make.add_argument("--host-index", type=int, metavar="I", help="which of --hosts this is, from 0")
    make.add_argument(
        "--port", type=int, default=12345, help="the first port on each of --hosts (default: %(default)s)"
    )
    make.add_argument(
        "--restarts", type=int, default=0, metavar="R", help="starts after a failure (default: %(default)s)"
    )
    make.add_argument(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="from SIGTERM to SIGKILL when all are to end (default: %(default)s)",
    )
    make.add_argument(
        "--input-workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that augment the pictures in memory, or make what devices.input_service is given",
    )
    make.add_argument("-m", dest="module", nargs=argparse.REMAINDER, default=[], help="what each worker runs")

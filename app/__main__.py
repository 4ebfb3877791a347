"""Starts a coordinator on this machine: `python -m app`, or `serverless-fl-coordinator`."""

import sys


def main() -> int:
    """Serve until SIGINT or SIGTERM; gives the exit code."""
    try:
        from app.entry.server.command import main as serve
    except ModuleNotFoundError as error:  # installed without the extra `server`
        print(
            f"error: The Python package {error.name} is not installed: "
            f"{sys.executable or 'python3'} -m pip install 'serverless-fl[server]'.",
            file=sys.stderr,
        )
        return 2
    return serve()


if __name__ == "__main__":
    sys.exit(main())

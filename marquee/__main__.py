"""`python -m marquee`."""

import signal
import sys

if __name__ == "__main__":
    try:
        from marquee.app import main

        main()
    except KeyboardInterrupt:  # while the command line was being imported
        print("stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to stop

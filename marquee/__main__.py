"""`python -m marquee`."""

import signal
import sys

if __name__ == "__main__":
    try:
        from core.libraries import leave_out_tensorflow
        from marquee.app import main

        leave_out_tensorflow()
        main()
    except KeyboardInterrupt:  # while the command line was being imported
        print("stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to stop

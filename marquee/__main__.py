"""`python -m marquee`."""

from marquee.app import main

if __name__ == "__main__":
    main()

"""Run the benchmark: `python run_bench.py --help`."""

import sys

if __name__ == "__main__":
    try:
        from bench.cli import main

        code = main()
    except KeyboardInterrupt:  # it had hardly begun
        print("\nInterrupted. The same command resumes.", file=sys.stderr)
        code = 130
    sys.exit(code)

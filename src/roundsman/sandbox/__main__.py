"""`python -m roundsman.sandbox`: the same as `roundsman sandbox`."""

import argparse
import asyncio
import sys

from roundsman.sandbox.alone import refusal, serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m roundsman.sandbox")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--rows", type=int, default=100, help="event logs to begin with")
    parser.add_argument("--per-second", type=float, default=1.0, help="new event logs in a second; 0: none")
    parser.add_argument("--listen", default="127.0.0.1:8377", help="where your daemon listens for webhooks")
    args = parser.parse_args()
    if not 0 <= args.port < 2**16:
        parser.error("the port is not from 0 to 65535")
    try:
        asyncio.run(serve(args.port, args.rows, args.per_second, args.listen))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(refusal(exc, args.port))

"""Train an encoder without labels, then say in nats what it learned: `python train.py --help`. As `ssl-mi train`."""

from ssl_mi.app.train import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Train an encoder without labels, then say in nats what it learned.

python train.py                              an embedded data set, about a minute
python train.py experiment=simclr_cifar      the paper's recipe on CIFAR-10
python train.py --help                       what there is to choose
"""

import hydra
from omegaconf import DictConfig

from ssl_mi.app import startup as cli
from ssl_mi.app.optimizer_choice import settle_optimizer
from ssl_mi.app.runner import Run


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def train(cfg: DictConfig) -> None:
    with cli.clear_errors():
        note = settle_optimizer(cfg)
        cli.check(cfg)
        cli.start(cfg)
        data = cli.build(cfg, "data")
        module = cli.build(cfg, "module")
        run = Run(cfg, data, module, optimizer_note=note)
        with run.reported():
            run.trainer.fit(module, data, ckpt_path=cfg.ckpt_path, weights_only=True)


if __name__ == "__main__":
    cli.check_overrides(train)
    train()

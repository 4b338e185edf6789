"""Samplers that carry their exact mutual information: families, transforms of them, and named suites of both."""

from ssl_mi.information.distributions import families, suites, transforms
from ssl_mi.information.distributions.families import Distribution
from ssl_mi.information.distributions.suites import SUITES, Task, find_task

__all__ = ["SUITES", "Distribution", "Task", "families", "find_task", "suites", "transforms"]

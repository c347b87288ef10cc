"""`prefdata doctor`: whether a build can run here, and what to do where it cannot."""

from prefdata.doctor.examination import Examination, examine
from prefdata.doctor.finding import Finding

__all__ = ["Examination", "Finding", "examine"]

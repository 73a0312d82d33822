from actionrec.manifest import ManifestClip as ManifestClip
from actionrec.manifest import read_manifest as read_manifest
from actionrec.manifest import write_manifest as write_manifest
from actionrec.protocols import Experiment as Experiment
from actionrec.protocols import run_experiment as run_experiment
from actionrec.recognizers import recognizer as recognizer

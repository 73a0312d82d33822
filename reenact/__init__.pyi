from reenact.planning.batch import Batch as Batch
from reenact.planning.batch import load_batch as load_batch
from reenact.planning.plan import Plan as Plan
from reenact.planning.plan import make_plan as make_plan
from reenact.planning.plan import read_plan as read_plan
from reenact.retargeting.retarget import retarget as retarget
from reenact.running.run import run_batch as run_batch

from avatars.avatar.model import Avatar as Avatar
from avatars.body.loading import load_body as load_body
from avatars.body.model import Body as Body
from avatars.body.motion import Motion as Motion
from avatars.fitting.config import FitConfig as FitConfig
from avatars.fitting.pipeline import FitResult as FitResult
from avatars.fitting.pipeline import fit_avatar as fit_avatar
from avatars.geometry.camera import Camera as Camera
from avatars.motion_formats.loading import load_motion as load_motion
from avatars.motion_formats.loading import save_motion as save_motion
from avatars.rasterizer import rasterize as rasterize
from avatars.tracking.config import TrackConfig as TrackConfig
from avatars.tracking.pipeline import track_video as track_video
from avatars.tracking.track import Track as Track
from avatars.viewing.rendering import render as render

__version__: str

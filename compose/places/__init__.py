"""What a place is: picture, camera, ground, free floor, light."""

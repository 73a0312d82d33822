"""Captures with known truth: procedural people, clothes, motions and rooms, ray-cast to video."""

"""Avatars x motions x places -> a labelled data set of clips."""

"""The main job, unattended: three agents at work on a sample repository, and what they did, checked with git."""

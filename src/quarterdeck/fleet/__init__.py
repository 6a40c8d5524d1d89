"""Agents, their workspaces and the git work that brings their results home."""

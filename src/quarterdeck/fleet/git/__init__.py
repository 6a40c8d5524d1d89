"""Git, through the real `git`: worktrees, rescue of unsaved work, diff, merge, and what is left over."""

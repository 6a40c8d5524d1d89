#!/bin/sh
# Installs GitLab's answers as TypeScript types and the compiler that checks against them, pinned, for
# tests/contracts/test_gitlab_payloads.py, into a folder (default .gitlab-types/, which git ignores). Needs npm.
set -eu
folder=${1:-$(dirname "$0")/../.gitlab-types}
packages="@gitbeaker/core@43.8.0 typescript@5.9.2 @types/node@22.18.0"
mkdir -p "$folder"
if [ "$(cat "$folder/installed" 2>/dev/null)" = "$packages" ]; then
    exit 0
fi
# shellcheck disable=SC2086 # one word for each package
npm install --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel=error $packages
echo "$packages" > "$folder/installed"

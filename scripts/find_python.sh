#!/bin/sh
# `find_python.sh 3.12` tells where that interpreter is: a name on PATH, else what pyenv has. Ends with 1 when it is
# not here. A pyenv shim may be there without its interpreter, and an interpreter without the module that makes venvs.
set -eu
for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python3; do
    if "$candidate" -c "import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
        echo "$candidate"
        exit 0
    fi
done
exit 1

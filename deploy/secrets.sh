#!/bin/sh
# Makes a random password in each of the files that are named, where there is none yet. Each file lies in a volume that
# only the services that need it can see, so every user in there may read it.
set -eu
for file in "$@"; do
    if [ ! -s "$file" ]; then
        head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$file.part"
        chmod 444 "$file.part"
        mv "$file.part" "$file"
    fi
done

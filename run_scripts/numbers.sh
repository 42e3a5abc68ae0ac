#!/usr/bin/env bash
# Sourced by the other scripts. `whole_numbers NAME NAME:LEAST ...` ends with one sentence unless each of these variables,
# where it is set, is a whole number of LEAST (1) or more.
set -euo pipefail
whole_numbers() {
    local given name least
    for given; do
        name=${given%:*} least=1
        if [ "$name" != "$given" ]; then least=${given#*:}; fi
        case ${!name:-$least} in
            *[!0-9]* | 0?* | ??????????*) ;;
            *) if [ "${!name:-$least}" -ge "$least" ]; then continue; fi ;;
        esac
        echo "$name must be a whole number, $least or more, not '${!name}'." >&2 && exit 2
    done
}

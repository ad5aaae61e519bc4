# Completes `cargo xtask`; all else of `cargo` is left to what completed it before.

_hermitage_xtask() {
    local program=@PROGRAM@ value help
    local -a values shown
    [[ -x $program ]] || return
    "$program" complete-words "${(@)words[2,CURRENT]}" 2>/dev/null |
        while IFS=$'\t' read -r value help; do
            values+=("$value")
            shown+=("$value${help:+  -- $help}")
        done
    compadd -l -d shown -a values
}

_hermitage_cargo() {
    if [[ $words[2] == xtask && $CURRENT -gt 2 ]]; then
        _hermitage_xtask
    elif [[ -n $_hermitage_before ]]; then
        $_hermitage_before "$@"
    fi
}

[[ ${_comps[cargo]} != _hermitage_cargo ]] && typeset -g _hermitage_before=${_comps[cargo]}
compdef _hermitage_cargo cargo

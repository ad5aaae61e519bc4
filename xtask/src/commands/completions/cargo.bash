# Completes `cargo xtask`; all else of `cargo` is left to what completed it before.

_hermitage_xtask() {
    local program=@PROGRAM@ line=${COMP_LINE:0:COMP_POINT} words last candidate
    COMPREPLY=()
    [[ -x $program ]] || return
    # By spaces alone: bash's own words are broken at `=` and `:`, too.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last=${words[${#words[@]} - 1]}
    # Bash replaces only what stands behind the last break.
    local kept=${last%"${last##*[=:]}"}
    while IFS=$'\t' read -r candidate _; do
        COMPREPLY+=("${candidate#"$kept"}")
    done < <("$program" complete-words "${words[@]:1}" 2>/dev/null)
}

_hermitage_cargo() {
    if [[ ${COMP_WORDS[1]} == xtask && $COMP_CWORD -gt 1 ]]; then
        _hermitage_xtask
    elif [[ -n $_hermitage_before ]]; then
        "$_hermitage_before" "$@"
    fi
}

# What completes `cargo` is loaded at its first use, and would replace us then.
{ _comp_load cargo || _completion_loader cargo; } &>/dev/null
if [[ $(complete -p cargo 2>/dev/null) =~ \ -F\ ([^ ]+)\  && ${BASH_REMATCH[1]} != _hermitage_cargo ]]; then
    _hermitage_before=${BASH_REMATCH[1]}
fi
complete -o bashdefault -o default -F _hermitage_cargo cargo

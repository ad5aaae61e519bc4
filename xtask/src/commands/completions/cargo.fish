# Completes `cargo xtask`; all else of `cargo` is left to what completed it before.

function __hermitage_is_xtask
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test "$words[2]" = xtask
end

function __hermitage_xtask
    set -l program @PROGRAM@
    test -x $program; or return
    set -l words (commandline -opc) (commandline -ct)
    $program complete-words $words[2..-1] 2>/dev/null
end

complete -c cargo -n __hermitage_is_xtask -f -a '(__hermitage_xtask)'

# bash completion for tesseract-exporter
_tesseract_exporter() {
    local word=${COMP_WORDS[COMP_CWORD]} flag=
    # A flag with = and its value comes as three words, with a space as two.
    if [[ $word == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 1]} word=
    elif ((COMP_CWORD > 2)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == --* ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 1]}
    fi
    case $flag in
    --config.file | --web.config.file)
        # A directory goes on with a slash, and what a shell would take apart is quoted.
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word") && return
        ;;
    --log.level) mapfile -t COMPREPLY < <(compgen -W 'error warn info debug trace' -- "$word") && return ;;
    --log.format) mapfile -t COMPREPLY < <(compgen -W 'json text' -- "$word") && return ;;
    --web.listen-address | --web.telemetry-path | --url) return ;;
    esac
    local words='health --config.file= --config.check --web.listen-address= --web.config.file= --web.telemetry-path=
        --log.level= --log.format= --help --version'
    [[ ${COMP_WORDS[1]} != health ]] || words='--url= --help'
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace
}
complete -F _tesseract_exporter tesseract-exporter

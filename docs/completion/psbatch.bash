# bash completion for psbatch; made by: psbatch --completion=bash
_psbatch() {
    local current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} words=""
    # bash takes --flex=2 apart at its "=".
    if [ "$current" = "=" ]; then
        current=""
    elif [ "$option" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    case $option in
        --completion) words="bash zsh fish" ;;
        --distribution) words="block cyclic plane arbitrary" ;;
        --finish-by) words="now+8hours now+1days 18:00" ;;
        --flex) words="flex0 flex1 flex2 flex3" ;;
        --kill-on-invalid-dep) words="yes no" ;;
        --mail-type) words="NONE BEGIN END FAIL REQUEUE ALL STAGE_OUT ARRAY_TASKS TIME_LIMIT TIME_LIMIT_50 TIME_LIMIT_80 TIME_LIMIT_90" ;;
        --max-hold) words="0 15m 1h 4h 1d" ;;
        --open-mode) words="append truncate" ;;
        --tiers-ok) words="any none" ;;
        --wait-all-nodes) words="0 1" ;;
        --workload) words="training inference generation" ;;
        -p | --partition) words=$(timeout 2 sinfo -h -o %R 2>/dev/null) ;;
    esac
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--account= --acctg-freq= --array= --autocomplete= --batch= --bb= --bbf= --begin= --chdir= --cluster= --cluster-constraint= --clusters= --comment= --completion= --constraint= --container= --container-id= --container-type= --context= --core-spec= --cores-per-socket= --cpu-freq= --cpus-per-gpu= --cpus-per-task= --deadline= --delay-boot= --dependency= --distribution= --error= --exclude= --export= --export-file= --extra= --extra-node-info= --finish-by= --flex= --gid= --gpu-bind= --gpu-freq= --gpus= --gpus-per-node= --gpus-per-socket= --gpus-per-task= --gres= --gres-flags= --hint= --input= --job-name= --kill-on-invalid-dep= --licenses= --mail-type= --mail-user= --max-hold= --mcs-label= --mem= --mem-bind= --mem-per-cpu= --mem-per-gpu= --mem-update= --min-quality= --mincpus= --network= --nodefile= --nodelist= --nodes= --ntasks= --ntasks-per-core= --ntasks-per-gpu= --ntasks-per-node= --ntasks-per-socket= --ntasks-per-tres= --open-mode= --output= --partition= --power= --power-cap= --prefer= --priority= --profile= --qos= --reservation= --resources= --segment= --signal= --sockets-per-node= --switches= --tasks-per-node= --thread-spec= --threads-per-core= --tier= --tiers-ok= --time= --time-min= --tmp= --tres-bind= --tres-per-task= --uid= --wait-all-nodes= --wckey= --workload= --wrap= --consolidate-segments --contiguous --dry-run --exclusive --explain --external --get-user-env --help --hold --ignore-pbs --json --nice --no-kill --no-requeue --oom-kill-step --overcommit --oversubscribe --parsable --print-script --propagate --quiet --reboot --requeue --resv-ports --spread-job --spread-segments --stepmgr --test-only --usage --use-min-nodes --verbose --version --wait" -- "$current")
        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
        return
    fi
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
complete -o filenames -F _psbatch psbatch

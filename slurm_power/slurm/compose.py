"""Scripts that run a site's own hooks and then ours, so that ours can make nothing fail. Pure."""

import shlex


def chain(setting: str, own: list[str], ours_path: str) -> str:
    """A script that runs the site's own hooks as Slurm ran them, then ours; its status is the site's own."""
    patterns = " ".join(_glob_word(pattern) for pattern in own)
    # A start that the site's own prolog refuses is none of ours; an end is ours whatever the site's own says.
    failed = 'exit "$status"' if setting.startswith(("Prolog", "TaskProlog")) else "break"
    return f"""\
#!/bin/sh
# {setting}: the site's own, as slurm.conf had it, then slurm-power's. The exit status is the site's own.
status=0
for hook in {patterns}; do
  "$hook" "$@"
  status=$?
  [ "$status" -eq 0 ] || {failed}
done
[ ! -x {shlex.quote(ours_path)} ] || {shlex.quote(ours_path)} || :
exit "$status"
"""


def _glob_word(pattern: str) -> str:
    """Quote a word for sh, but for what makes a glob."""
    return "".join(letter if letter in "*?[]" else shlex.quote(letter) for letter in pattern)


def lua_block(path: str) -> list[str]:
    """Lua that runs our script's functions after the site's own, in a scope of its own, and fails open."""
    return f"""\
-- After the functions above: slurm-power's, in a scope of their own. Whatever fails there is logged, no more.
do
  local path = "{path}"
  local scope = setmetatable({{}}, {{ __index = _G }})
  local chunk = loadfile(path, "t", scope)
  if chunk and setfenv then setfenv(chunk, scope) end
  local loaded, problem = pcall(chunk or error)
  if not loaded then
    pcall(slurm.log_error, "slurm_power: %s is not loaded: %s", path, tostring(problem))
  end
  for _, name in ipairs({{ "slurm_job_submit", "slurm_job_modify" }}) do
    local own, added = _G[name], rawget(scope, name)
    if type(own) == "function" and type(added) == "function" then
      _G[name] = function(...)
        local status = own(...)
        if status == slurm.SUCCESS then
          local ran, answer = pcall(added, ...)
          if not ran then
            pcall(slurm.log_error, "slurm_power: %s: %s", name, tostring(answer))
          elseif answer ~= nil then
            status = answer
          end
        end
        return status
      end
    end
  end
end""".splitlines()

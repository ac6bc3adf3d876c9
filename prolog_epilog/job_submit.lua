-- job_submit/lua: writes a job's workload and flex where everybody can see them, into its AdminComment:
--   {"power":{"workload":"training","flex":"flex2"}}
-- The values come from our SPANK plugin; users cannot write an AdminComment themselves. Fails open: whatever goes
-- wrong here is logged and the job is submitted.
--
-- With a job_submit.lua of your own: rename this file, load it at the top of yours with
-- `dofile("/etc/slurm/slurm_power_submit.lua")`, and call `slurm_power_describe(job_desc)` in your slurm_job_submit.

local KNOWN = {
  POWER_WORKLOAD = { training = true, inference = true, generation = true },
  POWER_FLEX = { flex0 = true, flex1 = true, flex2 = true, flex3 = true },
}

-- Return the known words among the job's SPANK variables, by name.
local function chosen_words(job_desc)
  local found = {}
  local count = tonumber(job_desc.spank_job_env_size) or 0
  if count >= (slurm.NO_VAL or 4294967294) then
    return found
  end
  for index = 0, count - 1 do
    local name, word = string.match(tostring(job_desc.spank_job_env[index] or ""), "^([%u_]+)=(%w+)$")
    if name and KNOWN[name] and KNOWN[name][word] then
      found[name] = word
    end
  end
  return found
end

local function set_admin_comment(job_desc)
  if job_desc.admin_comment ~= nil and job_desc.admin_comment ~= "" then
    return
  end
  local found = chosen_words(job_desc)
  local fields = {}
  if found.POWER_WORKLOAD then
    fields[#fields + 1] = '"workload":"' .. found.POWER_WORKLOAD .. '"'
  end
  if found.POWER_FLEX then
    fields[#fields + 1] = '"flex":"' .. found.POWER_FLEX .. '"'
  end
  if #fields > 0 then
    job_desc.admin_comment = '{"power":{' .. table.concat(fields, ",") .. "}}"
  end
end

function slurm_power_describe(job_desc)
  local ok, problem = pcall(set_admin_comment, job_desc)
  if not ok then
    pcall(slurm.log_error, "slurm_power: job_submit: %s", tostring(problem))
  end
end

function slurm_job_submit(job_desc, part_list, submit_uid)
  slurm_power_describe(job_desc)
  return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS

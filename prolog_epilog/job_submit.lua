-- job_submit/lua for a site without a script of its own: does what slurm_power_submit.lua, beside it, says.
-- A site that has one loads that file there instead; docs/admission.md shows how, and tests try it.
-- A power tool that is broken or missing stops no job: then this one does nothing.

local directory = string.match(debug.getinfo(1, "S").source, "^@(.*/)") or ""
local loaded, problem = pcall(dofile, directory .. "slurm_power_submit.lua")
if not loaded then
  slurm.log_error("slurm_power: job_submit: %s; jobs are submitted as they are", tostring(problem))
end

function slurm_job_submit(job_desc, part_list, submit_uid)
  if loaded then
    slurm_power_submit(job_desc, part_list)
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
  if loaded then
    slurm_power_modify(job_desc, job_rec, part_list, modify_uid)
  end
  return slurm.SUCCESS
end

return slurm.SUCCESS

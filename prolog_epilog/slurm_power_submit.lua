-- What slurmctld does for power when a job is submitted or changed. A job_submit.lua, ours or a site's, says
--   dofile("/etc/slurm/slurm_power_submit.lua")
--   slurm_power_submit(job_desc, part_list)                        in slurm_job_submit
--   slurm_power_modify(job_desc, job_rec, part_list, modify_uid)   in slurm_job_modify
-- A job's expected watts become a licence, so that Slurm itself keeps their sum below the safety rating, and
-- go with its user's choices into its AdminComment: {"power":{"workload":"training","watts":5400}}.
-- What to expect is in a small file that powerctld writes (docs/admission.md has its form): data, never run.
-- Fails open: whatever goes wrong here is logged, and the job is submitted as it was.

local HEAD = "slurm-power-expected-watts 1 "
local DEFAULT_FILE = "/var/lib/slurm-power/admission/expected_watts"
local MOST_SETTINGS, MOST_KEPT, MOST_GPU_WATTS = 100, 2000, 100000
-- The user's words and ours, and which of them are no numbers: texts, and what is JSON already.
local KEYS = { "workload", "flex", "max_hold_seconds", "finish_by", "cap_watts", "tier", "tiers_ok", "min_quality",
  "watts" }
local AS_THEY_ARE = { workload = "text", tier = "text", tiers_ok = "json", min_quality = "json" }
local CLASSES = { training = true, inference = true, generation = true }

-- Where powerctld writes: `admission_file=` of the slurm-power.conf beside this file.
local function file_name()
  local folder = string.match(debug.getinfo(1, "S").source, "^@(.*/)") or ""
  local conf = io.open(folder .. "slurm-power.conf", "r")
  local found = conf and string.match("\n" .. (conf:read("*a") or ""), "\n%s*admission_file%s*=%s*(%S+)")
  if conf then
    conf:close()
  end
  return found or DEFAULT_FILE
end

local FILE = file_name()
-- What was last read of the file: its first line, its settings, where its entries begin, and those looked up.
local known = {}
local opened

local function settings_of(head)
  local found = { class = {} }
  for _, line in ipairs(head) do
    local key, value = string.match(line, "^([%w_]+)\t([^\t]*)$")
    local class, watts = string.match(line, "^class\t(%w+)\t(%d+%.?%d*)$")
    if class then
      found.class[class] = tonumber(watts)
    elseif key then
      found[key] = tonumber(value) or value
    end
  end
  return found
end

-- Return the settings, nil where there are none. Plain Lua cannot ask for a file's time, so the first line is
-- a stamp: while that stays, no more is read.
local function settings()
  opened = io.open(FILE, "r")
  local first = opened and opened:read("*l")
  if not first then
    known = {}
    return nil
  end
  if first ~= known.stamp or known.count > MOST_KEPT then
    known = { stamp = first, found = {}, count = 0 }
    local head, line = {}, nil
    repeat
      line = opened:read("*l")
      head[#head + 1] = line
    until not line or line == "" or #head > MOST_SETTINGS
    if string.sub(first, 1, #HEAD) == HEAD and line == "" then
      known.settings = settings_of(head)
      known.first, known.last = opened:seek(), opened:seek("end")
    else
      slurm.log_error("slurm_power: %s is not of a form that is known here; no watts are set", FILE)
    end
  end
  return known.settings
end

-- Whether a line comes before a key in the order of bytes: the order of strings in Lua follows the locale.
local function before(line, key)
  for place = 1, #key do
    local ours, theirs = string.byte(line, place) or 0, string.byte(key, place)
    if ours ~= theirs then
      return ours < theirs
    end
  end
  return false
end

-- The line that begins at a place, or the first behind it.
local function line_from(place)
  opened:seek("set", math.max(place - 1, known.first))
  local rest = place > known.first and opened:read("*l")
  return rest ~= nil and opened:read("*l") or nil
end

-- Return the watts of the line that begins with these words, nil if there is none. The file is never read
-- as a whole, which would take milliseconds: it is sorted, and searched by halves.
local function entry(...)
  local key = table.concat({ ... }, "\t") .. "\t"
  if known.found[key] == nil then
    local low, high = known.first, known.last
    while high - low > 512 do
      local middle = math.floor((low + high) / 2)
      local line = line_from(middle)
      if line and before(line, key) then
        low = middle
      else
        high = middle
      end
    end
    local line = line_from(low)
    while line and before(line, key) do
      line = opened:read("*l")
    end
    local watts = line and string.sub(line, 1, #key) == key and tonumber(string.sub(line, #key + 1))
    known.found[key], known.count = watts or false, known.count + 1
  end
  return known.found[key] or nil
end

-- A job's name without what differs from run to run, as powerctld has it: 7 and more hexadecimal digits, and
-- numbers but for sizes such as 7b. Nil for what is no plain text.
local function name_stem(name)
  if string.find(name, "[^\32-\126]") then
    return nil
  end
  name = string.lower(string.sub(name, 1, 200))
  local out, at = {}, 1
  while at <= #name do
    local hex = string.match(name, "^[%da-f]+", at)
    local digits = string.match(name, "^%d+", at)
    local size = digits and string.match(name, "^[%d.]*[bmk]()", at)
    if hex and #hex >= 7 then
      out[#out + 1], at = "#", at + #hex
    elseif digits and not (size and not string.find(name, "^[%a%d]", size)) then
      out[#out + 1], at = "#", at + #digits
    else
      out[#out + 1], at = string.sub(name, at, at), at + 1
    end
  end
  return table.concat(out)
end

-- A count that was given, nil for Slurm's marks of none.
local function number(value)
  value = tonumber(value)
  if not value or value >= 4294967290 or value == 65534 or value == 65535 or value <= 0 then
    return nil
  end
  return value
end

-- Count the GPUs in "gres:gpu:h100:2", "gres/gpu=4" and such, with their type; nil where none are asked for.
local function gpus_of(text)
  if type(text) ~= "string" then
    return nil, ""
  end
  local typed, plain, kind, kinds = nil, nil, "", 0
  for part in string.gmatch(string.gsub(text, "%b()", ""), "[^,]+") do
    local what, rest = string.match(string.gsub(part, "^%s*gres[:/]", ""), "^(%w+)(.*)$")
    local words = {}
    for word in string.gmatch(rest or "", "[^:=/]+") do
      words[#words + 1] = word
    end
    local digits, unit = string.match(words[#words] or "", "^(%d+)([kKmM]?)$")
    local count = tonumber(digits) or 1
    count = unit and string.lower(unit) == "k" and count * 1024 or count
    if what == "gpu" and words[1] and not (digits and #words == 1) then
      typed = (typed or 0) + count
      kinds, kind = kind == words[1] and kinds or kinds + 1, words[1]
    elseif what == "gpu" then
      plain = (plain or 0) + count
    elseif what == "shard" or what == "mps" then
      plain = (plain or 0) + 1 -- a part of a GPU may draw as much as all of it
    end
  end
  kind = kinds == 1 and kind or ""
  if typed and plain and string.find(text, "=", 1, true) then
    return math.max(typed, plain), kind -- a sum beside its parts
  end
  return (typed or plain) and (typed or 0) + (plain or 0), kind
end

-- CPUs of a node in the partitions a job may start in, the fewest; nil where nobody says.
local function node_cpus(job, part_list)
  local least
  for name, part in pairs(part_list or {}) do
    local listed = "," .. tostring(job.partition or "") .. ","
    local wanted = job.partition and string.find(listed, "," .. tostring(name) .. ",", 1, true)
    local nodes, cpus = number(part.total_nodes), number(part.total_cpus)
    if nodes and cpus and (wanted or (not job.partition and part.flag_default == 1)) then
      least = math.min(least or math.huge, math.max(1, math.floor(cpus / nodes)))
    end
  end
  return least
end

-- How large a job is: GPUs with their type, nodes, CPUs. What it leaves open counts as the most it may get.
local function size_of(job, part_list, conf)
  local tasks, per_node_tasks = number(job.num_tasks), number(job.ntasks_per_node)
  local most, least = number(job.max_nodes), number(job.min_nodes)
  local cpus = number(job.min_cpus) or (tasks or 1) * (number(job.cpus_per_task) or 1)
  local nodes = most and math.max(most, least or 1) or (least and least > 1 and least)
  if not nodes and tasks and per_node_tasks then
    nodes = math.ceil(tasks / per_node_tasks)
  elseif not nodes then
    local each = node_cpus(job, part_list)
    nodes = each and math.ceil(cpus / each) or tasks or 1
  end
  tasks = tasks or (per_node_tasks or 1) * nodes
  local gpus, kind, kinds = 0, "", 0
  for key, times in pairs({
    tres_per_job = 1,
    tres_per_node = nodes,
    tres_per_socket = nodes * (number(job.sockets_per_node) or 2),
    tres_per_task = tasks,
  }) do
    local count, found = gpus_of(job[key])
    gpus = math.max(gpus, (count or 0) * times)
    if found ~= "" then
      kinds, kind = kind == found and kinds or kinds + 1, found
    end
  end
  local per_gpu = number(job.ntasks_per_tres) or number(job.ntasks_per_gpu)
  gpus = gpus == 0 and per_gpu and math.ceil(tasks / per_gpu) or gpus
  if gpus > 0 and tonumber(job.shared) == 0 then
    gpus = math.max(gpus, nodes * (number(conf.node_gpus) or 0)) -- alone on its nodes it gets all they have
  end
  return { gpus = gpus, kind = kinds == 1 and kind or "", nodes = nodes, cpus = cpus }
end

-- Watts per GPU by what is known of such jobs: of this name, this user, this class; else the class default.
local function gpu_watts(conf, user, class, kind, name)
  local stem = type(name) == "string" and name_stem(name)
  for _, type_of_gpu in ipairs(kind ~= "" and { kind, "" } or { "" }) do
    local found = stem and entry("name", user, class, type_of_gpu, stem)
      or entry("user", user, class, type_of_gpu)
      or entry("class", class, type_of_gpu)
    if found then
      return found
    end
  end
  return conf.class[class] or conf.class.training or 0
end

-- What a job adds at its nodes, in watts, and at the circuit that the licences are of.
local function watts_of(size, conf, user, class, name, cap)
  local added
  if size.gpus > 0 then
    local each = math.min(gpu_watts(conf, user, class, size.kind, name), cap or math.huge)
    added = size.gpus * math.max(0, each - (number(conf.idle_gpu) or 0) + (number(conf.host_per_gpu) or 0))
  else
    added = size.cpus * (number(conf.per_cpu) or 0) + size.nodes * (number(conf.per_node) or 0)
  end
  return added, math.ceil(added * (number(conf.factor) or 1))
end

-- Return a job's licences with at least `least` of one of them; nil if they cannot be added to. What is asked
-- for already counts where it is more than `before`.
local function with_licence(text, name, least, most, before)
  local kept, own = {}, 0
  if string.find(text or "", "|", 1, true) then
    return nil -- one licence or another: no third can be asked for beside
  end
  for part in string.gmatch(text or "", "[^,;]+") do
    local word, count = string.match(part, "^%s*([^:=*%s]+)%s*[:=*]?%s*(%d*)%s*$")
    if word == name then
      own = own + (tonumber(count) or 1)
    else
      kept[#kept + 1] = part
    end
  end
  own = own > (before or 0) and own or 0
  -- What a user asks for beyond the total is Slurm's to refuse.
  local wanted = math.max(own, math.min(least, most or math.huge))
  if wanted > 0 then
    kept[#kept + 1] = string.format("%s:%.0f", name, wanted)
  end
  return table.concat(kept, ",")
end

local function set_licences(job, text, size, at_nodes, watts, conf, before)
  local total = number(conf.total)
  local changed = text or ""
  if type(conf.licence) == "string" and total then
    if watts > total then
      slurm.log_info("slurm_power: %s of %s: %.0f W expected, which is more than all licences: it gets %.0f",
        tostring(job.name), tostring(job.user_name), watts, total)
    end
    changed = with_licence(changed, conf.licence, watts, total, before)
  end
  if changed and type(conf.hres) == "string" then
    changed = with_licence(changed, conf.hres, math.ceil(at_nodes / size.nodes), number(conf.hres_most))
  end
  if not changed then
    slurm.log_info("slurm_power: licences %s cannot be added to: no watts are set", tostring(text))
  elseif changed ~= (text or "") then
    job.licenses = changed
  end
end

-- The tiers of "int8,small" as a list in JSON; nil for none, and for what is no such list.
local function tier_names(text)
  local names = {}
  for name in string.gmatch(text or "", "[^,]+") do
    if not string.find(name, "^[%l%d][%l%d._-]*$") then
      return nil
    end
    names[#names + 1] = '"' .. name .. '"'
  end
  return #names > 0 and text ~= "none" and "[" .. table.concat(names, ",") .. "]" or nil
end

-- What the user chose, as our SPANK plugin wrote it; what is no normal form is none.
local function choices(job)
  local words, count = {}, tonumber(job.spank_job_env_size) or 0
  for index = 0, (count < 65534 and count or 0) - 1 do
    local name, word = string.match(tostring(job.spank_job_env[index] or ""), "^POWER_([%u_]+)=([%w@/,._-]+)$")
    if name then
      words[name] = word
    end
  end
  local cap = tonumber(string.match(words.CAP or "", "^%d+$"))
  return {
    workload = CLASSES[words.WORKLOAD or ""] and words.WORKLOAD,
    flex = string.match(words.FLEX or "", "^flex[0-3]$"),
    max_hold_seconds = string.match(words.MAX_HOLD or "", "^(%d+)s$"),
    finish_by = string.match(words.FINISH_BY or "", "^@(%d+)$"),
    cap_watts = cap and cap >= 1 and cap <= MOST_GPU_WATTS and cap or nil,
    tier = string.match(words.TIER or "", "^[%l%d][%l%d._-]*/[%l%d][%l%d._-]*$"),
    tiers_ok = tier_names(words.TIERS_OK),
    min_quality = string.match(words.MIN_QUALITY or "", "^-?%d+$")
      or string.match(words.MIN_QUALITY or "", "^-?%d+%.%d+$"),
  }
end

local function comment_of(chosen, watts)
  local fields = {}
  chosen.watts = watts and watts > 0 and watts or nil
  for _, key in ipairs(KEYS) do
    local value = chosen[key]
    local count = not AS_THEY_ARE[key] and tonumber(value)
    if count and count < 1e12 then
      fields[#fields + 1] = string.format('"%s":%.0f', key, count)
    elseif value and AS_THEY_ARE[key] == "json" then
      fields[#fields + 1] = string.format('"%s":%s', key, value)
    elseif value and not count then
      fields[#fields + 1] = string.format('"%s":"%s"', key, value)
    end
  end
  return #fields > 0 and '{"power":{' .. table.concat(fields, ",") .. "}}" or nil
end

local function submit(job, part_list)
  local chosen, watts = choices(job), nil
  local well, problem = pcall(function()
    local conf = settings()
    -- Slurm from 24.11 on refuses a het job of which another part than the first has licences.
    if not conf or (number(job.het_job_offset) and conf.het_parts ~= 1) then
      return
    end
    local size = size_of(job, part_list, conf)
    local user, class = tostring(job.user_name or ""), chosen.workload or "training"
    local at_nodes, expected = watts_of(size, conf, user, class, job.name, chosen.cap_watts)
    watts = math.min(expected, number(conf.total) or expected)
    set_licences(job, job.licenses, size, at_nodes, expected, conf)
  end)
  if job.admin_comment == nil or job.admin_comment == "" then
    local comment = comment_of(chosen, watts)
    if comment then
      job.admin_comment = comment
    end
  end
  if not well then
    error(problem, 0)
  end
end

local SIZES = { "tres_per_job", "tres_per_node", "tres_per_socket", "tres_per_task", "min_nodes", "max_nodes",
  "num_tasks", "ntasks_per_node", "cpus_per_task", "min_cpus", "sockets_per_node" }

-- A user who changes a pending job's size or licences keeps the watts; what root and powerctld write stands.
local function modify(job, record, part_list, uid)
  local conf = settings()
  local pending = (tonumber(record.job_state) or 0) % 256 == 0
  if not conf or not pending or uid == 0 or uid == tonumber(conf.uid) then
    return
  end
  local grown, merged = false, setmetatable({}, { __index = record })
  for _, key in ipairs(SIZES) do
    local value = job[key]
    if value ~= nil and (type(value) == "string" or number(value)) then
      merged[key], grown = value, true
    end
  end
  local comment = tostring(record.admin_comment or "")
  local watts = tonumber(string.match(comment, '"watts":(%d+)'))
  if not watts or (job.licenses == nil and not grown) then
    return -- it came before us, or nothing of this is changed
  end
  local size = size_of(merged, part_list, conf)
  local class = string.match(comment, '"workload":"(%l+)"') or "training"
  local cap = tonumber(string.match(comment, '"cap_watts":(%d+)'))
  local user = record.user_name or (uid == tonumber(record.user_id) and job.user_name) or ""
  local at_nodes, expected = watts_of(size, conf, tostring(user), class, record.name, cap)
  local licences = job.licenses == nil and record.licenses or job.licenses
  set_licences(job, licences, size, at_nodes, grown and expected or watts, conf, watts)
end

local function guarded(step)
  return function(...)
    local well, problem = pcall(step, ...)
    if opened then
      pcall(opened.close, opened)
      opened = nil
    end
    if not well then
      pcall(slurm.log_error, "slurm_power: job_submit: %s", tostring(problem))
    end
  end
end

slurm_power_submit = guarded(submit) -- (job_desc, part_list)
slurm_power_modify = guarded(modify) -- (job_desc, job_rec, part_list, modify_uid)

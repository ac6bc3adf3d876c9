"""The part of the configuration that HAProxy runs itself: streams pass through a few lines of Lua.

A proxy cannot add to a body that breaks off, and a stream cannot be replayed. So a stream goes through this
service inside HAProxy, over an inner listener to the tiers: where the tier's answer ends before its end, the
client gets an event with a name and a proper end of the body in place of a cut connection.
"""

ERROR_EVENT = "error"

LUA = """-- Written by slurm-power. Passes a streamed answer on; names the end of one that broke off.
local socket_path = os.getenv("SLURM_POWER_GATEWAY_INNER")
local hop = { connection = true, ["transfer-encoding"] = true, ["content-length"] = true,
              ["keep-alive"] = true, upgrade = true, te = true, trailer = true, expect = true }

local function refuse(applet, status, text)
  applet:set_status(status)
  applet:add_header("content-type", "application/json")
  applet:add_header("content-length", tostring(#text))
  applet:start_response()
  applet:send(text)
end

local function request_head(applet, body)
  local path = applet.path
  if applet.qs ~= nil and applet.qs ~= "" then path = path .. "?" .. applet.qs end
  local lines = { applet.method .. " " .. path .. " HTTP/1.1" }
  for name, values in pairs(applet.headers) do
    if not hop[name] then
      for _, value in pairs(values) do lines[#lines + 1] = name .. ": " .. value end
    end
  end
  if #body > 0 or applet.method == "POST" or applet.method == "PUT" then
    lines[#lines + 1] = "content-length: " .. #body
  end
  lines[#lines + 1] = "connection: close"
  return table.concat(lines, "\\r\\n") .. "\\r\\n\\r\\n"
end

local function response_head(tier)
  local line = tier:receive("*l")
  if line == nil then return nil end
  local status = tonumber(string.match(line, "^HTTP/1%.[01] (%d%d%d)"))
  if status == nil then return nil end
  local headers = {}
  while true do
    line = tier:receive("*l")
    if line == nil then return nil end
    line = string.gsub(line, "\\r$", "")
    if line == "" then return status, headers end
    local name, value = string.match(line, "^([^:]+):%s*(.*)$")
    if name ~= nil then headers[#headers + 1] = { string.lower(name), value } end
  end
end

-- Each passes a body on and returns whether it came to its end.
local function pass_chunks(tier, applet)
  while true do
    local line = tier:receive("*l")
    local size = line and tonumber(string.match(line, "^%x+") or "", 16)
    if size == nil then return false end
    if size == 0 then return true end
    local left = size
    while left > 0 do
      local data, _, part = tier:receive(math.min(left, 8192))
      if data == nil then
        if part ~= nil and #part > 0 then applet:send(part) end
        return false
      end
      applet:send(data)
      left = left - #data
    end
    tier:receive("*l")
  end
end

local function pass_length(tier, applet, left)
  while left > 0 do
    local data, _, part = tier:receive(math.min(left, 8192))
    if data == nil then
      if part ~= nil and #part > 0 then applet:send(part) end
      return false
    end
    applet:send(data)
    left = left - #data
  end
  return true
end

local function pass_lines(tier, applet)
  while true do
    local line, _, part = tier:receive("*l")
    if line == nil then
      if part ~= nil and #part > 0 then applet:send(part) end
      return true
    end
    applet:send(line .. "\\n")
  end
end

core.register_service("slurm_power_stream", "http", function(applet)
  local body = applet:receive() or ""
  local tier = core.tcp()
  tier:settimeout(@STREAM_IDLE_SECONDS@)
  if not tier:connect(socket_path) then return refuse(applet, 503, '{"error":"no tier serves"}') end
  tier:send(request_head(applet, body))
  tier:send(body)
  local status, headers = response_head(tier)
  while status ~= nil and status >= 100 and status < 200 do status, headers = response_head(tier) end
  if status == nil then
    tier:close()
    return refuse(applet, 502, '{"error":"the tier ended before it answered"}')
  end
  local chunked, length, events = false, nil, false
  applet:set_status(status)
  for _, header in ipairs(headers) do
    local name, value = header[1], header[2]
    if name == "transfer-encoding" then chunked = true end
    if name == "content-length" then length = tonumber(value) end
    if name == "content-type" and string.find(value, "text/event-stream", 1, true) then events = true end
    if not hop[name] then applet:add_header(name, value) end
  end
  -- A stream is chunked, so that what we say of its end fits behind; anything else keeps its length.
  if length ~= nil and not events then applet:add_header("content-length", tostring(length)) end
  applet:start_response()
  local whole
  if applet.method == "HEAD" or status == 204 or status == 304 then whole = true
  elseif chunked then whole = pass_chunks(tier, applet)
  elseif length ~= nil then whole = pass_length(tier, applet, length)
  else whole = pass_lines(tier, applet) end
  tier:close()
  if not whole and events then
    applet:send('\\n\\nevent: @ERROR_EVENT@\\ndata: {"error":{"type":"tier_ended",'
      .. '"message":"The model server ended before this answer was complete."}}\\n\\n')
  end
end)
"""


def lua(*, stream_idle_seconds: float) -> str:
    """The Lua file; a tier that is silent for ``stream_idle_seconds`` in a stream counts as ended."""
    return LUA.replace("@STREAM_IDLE_SECONDS@", str(int(stream_idle_seconds))).replace(
        "@ERROR_EVENT@", ERROR_EVENT
    )

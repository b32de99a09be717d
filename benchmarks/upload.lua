-- wrk: multipart uploads of the PNGs in DIGITS (paths, separated by colons), in turn; one line of JSON at the end.
local requests, turn = {}, 0

function init(args)
  for path in os.getenv("DIGITS"):gmatch("[^:]+") do
    local file = assert(io.open(path, "rb"))
    local body = "--boundary-of-wrk\r\nContent-Disposition: form-data; name=\"file\"; filename=\"digit.png\"\r\n"
      .. "Content-Type: image/png\r\n\r\n" .. file:read("*a") .. "\r\n--boundary-of-wrk--\r\n"
    file:close()
    local headers = { ["Content-Type"] = "multipart/form-data; boundary=boundary-of-wrk" }
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.3f, "p99": %.3f}', summary.requests,
    summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end

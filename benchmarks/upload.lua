-- wrk: the bodies in the files of BODIES (paths, separated by colons), in turn; one line of JSON at the end.
local requests, turn = {}, 0

function init(args)
  for path in os.getenv("BODIES"):gmatch("[^:]+") do
    local file = assert(io.open(path, "rb"))
    local headers = { ["Content-Type"] = os.getenv("KIND"), ["Inference-Header-Content-Length"] = os.getenv("JSON") }
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
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

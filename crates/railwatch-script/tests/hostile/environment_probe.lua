-- Looks for anything that leads outside.
-- outcome: false
return (os or io or debug or package or require or load or loadstring or loadfile or dofile or collectgarbage or gcinfo or newproxy
  or getfenv or setfenv or setmetatable or getmetatable or rawset or coroutine or buffer or print or _G or _ENV or shared) ~= nil

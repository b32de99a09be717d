"""Pictures are decoded in a few processes of their own, which can be limited and killed.

A decoder of image formats is the largest surface that a service of pictures shows: what is sent decides how
much time and memory it takes, and in a thread neither can be limited nor taken back. So:

    request -> pool (event loop): admitted by pixels, queued, in turns
            -> decoder process:   form -> picture -> the model's pixels    (numpy and Pillow; no torch)

- What is not the plain case of a few kB (`app.web.prediction`) goes to a decoder as the bytes that came. The
  event loop looks at the first bytes alone, in bounded steps, for the size that is announced (`announced`).
- A decoder (`worker`) limits itself: address space, and CPU seconds for each picture. The pool (`pool`) adds
  a deadline. One that dies is replaced, and the picture that it had is the one that is answered with an
  error; those that waited behind it are sent again.
- Requests take turns, so that a batch does not keep a single picture waiting; and with two decoders or more,
  one is always kept free of very large pictures.
- A request that is given up keeps its place until its decoder is free: that is waited for shortly, then forced.
- A decoder ends when its standard input does, so also where the API worker was killed.

Messages go through the pipes of `asyncio.create_subprocess_exec` (`wire`): measured with uvloop, a round trip
is 30 us, and 3 MB take 0.4 ms of the event loop; a socket pair was no quicker, and this runs on Windows too.
"""

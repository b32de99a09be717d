"""An example of every error, as /docs shows it beside each status: what happened, and what to do.

A hint that is empty here is the one of the table in `app.web.problems`.
"""

from collections.abc import Mapping

import models.errors
from app import errors
from app.jobs import imports, job
from app.store import datasets, feedback, renaming, versions
from app.store.errors import ArtifactsAway

EXAMPLES: Mapping[type[Exception], tuple[str, str]] = {
    errors.RequestError: ("the body is no UTF-8 text", "send text in UTF-8"),
    errors.MalformedRequest: ("the request is not HTTP/1.1", "send HTTP/1.1, as other clients do"),
    errors.UnknownHost: (
        "this service is not called 'example.org'",
        "ask it by its own name, or list that name in MINIST_ALLOWED_HOSTS",
    ),
    errors.HeadTooLarge: ("the head has more than 32768 bytes", "send fewer and shorter headers"),
    errors.TooSlow: ("the request did not arrive within 10 s", "send it faster"),
    errors.MalformedForm: ("the form has no boundary", "let your HTTP client build the form"),
    errors.EmptyBody: ("the body is empty", "send an image"),
    errors.WrongFields: ("the form has no field 'file'", "send the image as the form field 'file'"),
    errors.WrongArray: ("the array is float64 [5, 784]", "send uint8 [N, 28, 28]"),
    errors.WrongTensor: ("image has the shape [784], the model takes [-1, 784]", "send it as [1, 784]"),
    errors.WrongTable: ("the body has no header", "name the columns in its first line"),
    errors.WrongRow: ("age: 'forty' is no number", "send a number, or leave it out where it is not known"),
    errors.BodyTooLarge: ("the body has more than 16777216 bytes", "send a smaller one"),
    errors.WrongContentType: ("text/html is not read here", "send an image, a form, or JSON"),
    errors.UnknownModel: ("there is no model 'digts'", "did you mean 'digits'? Or ask for one of cnn, digits"),
    errors.UnloadedModel: (
        "the model 'cnn' is out of service",
        "POST /v2/repository/models/cnn/load puts it back",
    ),
    errors.DamagedModel: ("version 3 of 'cnn' cannot be loaded", "ask another version of it"),
    errors.NotReady: ("the service is shutting down", "ask another instance"),
    errors.Overloaded: ("256 images are waiting", "try again after the seconds in Retry-After"),
    errors.DeadlineExceeded: (
        "no answer could be given within 30 s",
        "try again later, send the body faster, or fewer images at a time",
    ),
    errors.TooManyRequests: (
        "no more than 100 per 1 minute are answered",
        "try again in 17 s, and ask more slowly",
    ),
    errors.Unauthorized: (
        "this needs an API key and none was sent",
        "send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
    ),
    errors.Forbidden: ("the key of ci has the scopes predict", "use a key with the scope train"),
    errors.UnknownJob: ("there is no job '0f3a'", "GET /train lists the jobs"),
    errors.UnknownArtifact: ("the job has no file 'curve.png'", "ask for one of curves.png, report.html"),
    errors.Conflict: ("'digits' answers requests that name no model", "choose another model"),
    errors.InvalidRequest: ("query.limit: Input should be greater than or equal to 1 (got '0')", "correct it"),
    errors.FeedbackIsOff: (
        "this service does not remember its predictions",
        "the operator may set MINIST_FEEDBACK=true",
    ),
    errors.UnknownCorrection: ("there is no correction '5c1e'", "GET /feedback lists them"),
    errors.NotADataset: ("the zip file holds no pictures", "put the pictures into a folder for each class"),
    errors.UnusableWeights: (
        "no architecture has these keys: 'cnn' fits best: missing conv2.weight",
        "send all weights of the model",
    ),
    errors.UnknownDataset: ("there is no data set 'photo'", "did you mean 'photos'?"),
    datasets.NoSuchDataset: ("there is no data set 'photos@7'", ""),
    datasets.DatasetsFull: ("data sets have 9.8 of 10 GB, and this has 400 MB", ""),
    imports.DatasetInUse: ("photos@1 is needed by version 2 of 'photos'", ""),
    imports.DatasetNotReady: ("photos@2 is still imported", ""),
    errors.NoTestSet: (
        "the test set of mnist cannot be read",
        "put it under MINIST_DATA_DIR; a training job on mnist downloads it",
    ),
    errors.StorageTrouble: (
        "what has to be kept cannot be written or read now (database is locked)",
        "try again; the operator should look at the disk of MINIST_HOME",
    ),
    ArtifactsAway: ("the files of version 3 of 'mine' cannot be fetched now", "try again"),
    versions.NoSuchVersion: ("there is no version 9 of a model 'minist'", ""),
    versions.NoSuchAlias: ("model 'minist' has no alias 'candidate'", ""),
    versions.VersionInUse: ("version 2 of 'minist' is in use: production points at it", ""),
    renaming.NameTaken: ("there is a model 'cnn', or was one: its numbers are not used again", ""),
    versions.NothingBefore: ("production of 'minist' pointed at no other version that still exists", ""),
    job.QueueFull: ("20 jobs wait or run", ""),
    job.KeyReused: ("the idempotency key belongs to another request", ""),
    job.WrongStatus: ("the job has succeeded", ""),
    feedback.NoSuchPrediction: ("there is no prediction '5c1e', or it is older than an hour", ""),
    feedback.FeedbackFull: ("10000 corrections are kept", ""),
    models.errors.GraphFailed: ("the process of the model was ended after 2 s", ""),
    models.errors.EmptyImage: ("the image has no bytes", "send the whole file"),
    models.errors.NotAnImage: ("the file is not a PNG, JPEG, BMP, GIF or WebP image", "convert it to one"),
    models.errors.BrokenImage: ("the image is truncated", "send the whole file"),
    models.errors.ImageTooLarge: ("the image has 40000x40000 pixels", "scale it down first"),
    models.errors.CostlyImage: ("the image takes more than 2 s to decode", "save it as PNG or JPEG"),
    models.errors.WrongImageSize: (
        "the image has 64x64 pixels, the model takes 28x28",
        "crop and scale it to that size first, or ask with preprocess=auto",
    ),
    models.errors.NothingFound: ("nothing on the picture looks like a digit", "show one thing, dark on light"),
    models.errors.TooManyDigits: ("the picture has more than 60 digits", "send its parts one by one"),
}

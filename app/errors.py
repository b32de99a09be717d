"""The errors that a request can meet. They carry no HTTP status: `app.web.problems` has the one table of those.

RequestError
├── MalformedRequest   bytes that are not HTTP
├── UnknownHost        a Host header with a name that is not this service's
├── HeadTooLarge       a request line and headers above the limit
├── TooSlow            a request that comes too slowly
├── MalformedForm      a form that cannot be read
├── EmptyBody          a body without bytes
├── WrongFields        a form without the field that is needed, or with too many of it
├── WrongArray         an array of another type or shape
├── WrongTensor        a tensor of another type or shape, or JSON that describes none
├── WrongTable         a body that holds no table of rows
├── WrongRow           a row with a column or a value that the model does not take
├── BodyTooLarge       a body above the limit
├── WrongContentType   a content type that is not accepted here
├── UnknownModel       no model, version or alias has that name
├── UnloadedModel      the model was taken out of service
├── DamagedModel       the version is there, but cannot be loaded
├── NotReady           the service cannot answer yet, or is shutting down
├── Overloaded         more is waiting than is allowed
├── DeadlineExceeded   the request took longer than is allowed
├── TooManyRequests    the caller is over its rate limit
├── Unauthorized       no API key, or one that is not valid
├── Forbidden          a valid key without the scope that is needed
├── UnknownJob         no job has that id
├── UnknownArtifact    the job has no file of that name
├── Conflict           the present state does not allow it
├── InvalidRequest     a field or parameter with a value that is not allowed
├── FeedbackIsOff      the service keeps no corrections
├── UnknownCorrection  no correction has that id
├── UnusableWeights    a weights file that no model can be made of
├── NotADataset        a file that holds no data set
├── UnknownDataset     no data set or version has that name
├── NoTestSet          the test set that is needed is not under MINIST_DATA_DIR
└── StorageTrouble     the database or the disk does not answer
"""


class RequestError(Exception):
    """A request that cannot be answered: `detail` says why, `hint` what to do.

    `retry_after` is in seconds, where waiting helps.
    """

    def __init__(self, detail: str, hint: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.retry_after = retry_after


class MalformedRequest(RequestError):
    """Bytes that are not HTTP."""


class UnknownHost(RequestError):
    """A Host header with a name that is not this service's."""


class HeadTooLarge(RequestError):
    """A request line and headers above the limit."""


class TooSlow(RequestError):
    """A request that comes too slowly."""


class MalformedForm(RequestError):
    """A form that cannot be read."""


class EmptyBody(RequestError):
    """A body without bytes."""


class WrongFields(RequestError):
    """A form without the field that is needed, or with too many of it."""


class WrongArray(RequestError):
    """An array of another type or shape."""


class WrongTensor(RequestError):
    """A tensor of another type or shape, or JSON that describes none."""


class WrongTable(RequestError):
    """A body that holds no table of rows."""


class WrongRow(RequestError):
    """A row with a column or a value that the model does not take."""


class BodyTooLarge(RequestError):
    """A body above the limit."""


class WrongContentType(RequestError):
    """A content type that is not accepted here."""


class UnknownModel(RequestError):
    """No model, version or alias has that name."""


class UnloadedModel(RequestError):
    """The model was taken out of service, and not put back yet."""


class DamagedModel(RequestError):
    """The version is there, but cannot be loaded."""


class NotReady(RequestError):
    """The service cannot answer yet, or is shutting down."""


class Overloaded(RequestError):
    """More is waiting than is allowed."""


class DeadlineExceeded(RequestError):
    """The request took longer than is allowed."""


class TooManyRequests(RequestError):
    """The caller is over its rate limit."""


class Unauthorized(RequestError):
    """No API key; or, where one was `presented`, one that is not valid."""

    def __init__(self, detail: str, hint: str, presented: bool) -> None:
        super().__init__(detail, hint)
        self.presented = presented


class Forbidden(RequestError):
    """A valid key without the scope that is needed."""


class UnknownJob(RequestError):
    """No job has that id."""


class UnknownArtifact(RequestError):
    """The job has no file of that name."""


class Conflict(RequestError):
    """The present state does not allow it."""


class InvalidRequest(RequestError):
    """A field or parameter with a value that is not allowed."""


class FeedbackIsOff(RequestError):
    """The service keeps no corrections."""


class UnknownCorrection(RequestError):
    """No correction has that id."""


class UnusableWeights(RequestError):
    """A weights file that no model can be made of."""


class NotADataset(RequestError):
    """A file that holds no data set."""


class UnknownDataset(RequestError):
    """No data set or version has that name."""


class NoTestSet(RequestError):
    """The test set that is needed is not under MINIST_DATA_DIR."""


class StorageTrouble(RequestError):
    """The database or the disk does not answer."""


# of the model that a request names, see Registry.find
MODEL_ERRORS = UnknownModel, UnloadedModel, DamagedModel, StorageTrouble

package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/acm/types"
	"github.com/aws/smithy-go"
	"github.com/certctl/certctl"
)

// loginFor is how long credentials count before they are read again, so that a
// changed file counts.
const loginFor = 5 * time.Minute

// awsLogin is whose requests are sent.
type awsLogin struct {
	file, profile, region string
	egress                egress
	now                   func() time.Time
}

var _ aws.CredentialsProvider = (*awsLogin)(nil)

// Retrieve reads the file, or asks the environment as AWS' own tools do: variables, a
// token of Kubernetes, the container's or the machine's role. What must be asked
// for over the network is asked of hosts that the node's policy allows.
func (l *awsLogin) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if l.file != "" {
		return l.read(ctx)
	}
	client := awsClient(l.egress)
	environment, err := config.LoadDefaultConfig(ctx, config.WithRegion(l.region), config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }))
	if err != nil {
		return aws.Credentials{}, certctl.Wrap(certctl.Denied, err, "the proxy's environment has no credentials of AWS that can be read: %s", certctl.Clip(err.Error(), 300))
	}
	keys, err := environment.Credentials.Retrieve(ctx)
	var ours *certctl.Error
	if err != nil && !errors.As(err, &ours) {
		err = certctl.Wrap(certctl.Denied, err, "the proxy's environment has no credentials of AWS: %s", certctl.Clip(err.Error(), 300)).
			WithRemedy("give the proxy's machine or pod a role, or the target a credentials_file")
	}
	if err == nil && !keys.CanExpire {
		keys.CanExpire, keys.Expires = true, l.now().Add(loginFor) // whoever replaces them is heard
	}
	return keys, err
}

// awsClient is how AWS' library asks for credentials. It takes none but a client of
// its own where the environment names roots (AWS_CA_BUNDLE), so that hosts are
// refused where that client would look for a way to them.
func awsClient(e egress) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(egressTimeout).WithDialerOptions(func(d *net.Dialer) { d.Timeout = egressDial }).
		WithTransportOptions(func(t *http.Transport) {
			t.Proxy = func(r *http.Request) (*url.URL, error) { return nil, e.allow(r.URL) }
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		})
}

// awsAttempts is how often a request is made that AWS throttles, or does not answer;
// its library waits longer each time.
const awsAttempts = 3

// awsRetryer makes requests again, but not those that the egress refused, nor those
// beyond a quota; with throttled only those that AWS has not done: what makes
// something would make it twice.
func awsRetryer(throttled bool) aws.Retryer {
	refused := retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
		var ours *certctl.Error
		var quota *types.LimitExceededException
		if errors.As(err, &ours) || errors.As(err, &quota) {
			return aws.FalseTernary
		}
		return aws.UnknownTernary
	})
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = awsAttempts
		if throttled {
			o.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
		}
		o.Retryables = append([]retry.IsErrorRetryable{refused}, o.Retryables...)
	})
}

// read takes keys from a file, and nothing else that such files may say: above all
// no command.
func (l *awsLogin) read(ctx context.Context) (aws.Credentials, error) {
	info, err := os.Stat(l.file)
	if err != nil {
		return aws.Credentials{}, certctl.Wrap(certctl.Unavailable, err, "the credentials in %s cannot be read", l.file)
	}
	if info.Mode().Perm()&0o077 != 0 || info.Size() > maxSmallFile {
		return aws.Credentials{}, certctl.Errorf(certctl.Denied, "the credentials in %s may be read by others, or are none: mode %#o", l.file, info.Mode().Perm()).
			WithRemedy("chmod go= %s", l.file)
	}
	profile := l.profile
	if profile == "" {
		profile = "default"
	}
	found, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{l.file}, []string{}
	})
	if err != nil || !found.Credentials.HasKeys() {
		return aws.Credentials{}, certctl.Wrap(certctl.Denied, err, "%s has no access key of the profile %s", l.file, profile).
			WithRemedy("it needs aws_access_key_id and aws_secret_access_key in [%s]", profile)
	}
	keys := found.Credentials
	keys.CanExpire, keys.Expires = true, l.now().Add(loginFor)
	return keys, nil
}

// Codes with which AWS refuses, beside those that the model names for each operation.
var (
	awsThrottles = []string{"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"}
	awsForbids   = []string{"AccessDeniedException", "AccessDenied"}
	awsDoubts    = []string{
		"UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "ExpiredTokenException", "IncompleteSignatureException",
		"MissingAuthenticationTokenException", "ExpiredToken", "SignatureDoesNotMatch",
	}
	acmStates = []string{"ResourceInUseException", "LimitExceededException", "ConflictException", "RequestInProgressException"}
	acmInputs = []string{
		"ValidationException", "InvalidParameterException", "InvalidArnException", "InvalidTagException", "TooManyTagsException", "TagPolicyException",
		"InvalidArgsException",
	}
)

// acmError says what an answer means and, where a right is missing, which. What is
// no answer at all is Unavailable.
func acmError(operation string, cause error) error {
	var ours *certctl.Error
	if errors.As(cause, &ours) {
		return ours // of the egress, or of the credentials
	}
	var answer smithy.APIError
	if !errors.As(cause, &answer) {
		return certctl.Wrap(certctl.Unavailable, cause, "ACM does not answer %s: %s", operation, certctl.Clip(cause.Error(), 300))
	}
	code := answer.ErrorCode()
	err := certctl.Wrap(certctl.Unavailable, cause, "ACM refuses %s: %s: %s", operation, certctl.Clip(code, 60), certctl.Clip(answer.ErrorMessage(), 300))
	switch {
	case slices.Contains(awsThrottles, code):
		err.Code = certctl.RateLimited
		return err.WithRemedy("nothing is to be done: it is tried again; where it lasts, have AWS raise the account's quota of %s", operation)
	case slices.Contains(awsForbids, code):
		err.Code = certctl.Denied
		return err.WithRemedy("the proxy's identity needs the permission acm:%s", operation)
	case slices.Contains(awsDoubts, code):
		err.Code = certctl.Denied
		return err.WithRemedy("look at the credentials of the proxy, and at its clock")
	case code == "ResourceNotFoundException":
		err.Code = certctl.NotFound
	case code == "LimitExceededException":
		err.Code = certctl.Conflict
		return err.WithRemedy("the account has as many certificates, or has imported as many within a year, as its quota allows: delete some, or have AWS raise it")
	case slices.Contains(acmStates, code):
		err.Code = certctl.Conflict
	case slices.Contains(acmInputs, code):
		err.Code = certctl.Invalid
		if operation == "ImportCertificate" {
			return err.WithRemedy("over a certificate ACM imports none with another kind or size of key, or with fewer usages: bind another place for that")
		}
	}
	return err
}

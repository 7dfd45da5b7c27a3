/*
 * tests/unit/core/keys.h - public keys made by ssh-keygen, and their fingerprints as ssh-keygen -l printed them.
 *
 * Nobody has their private halves any more.
 */
#ifndef TESTS_UNIT_CORE_KEYS_H
#define TESTS_UNIT_CORE_KEYS_H

#define KEY_ED25519_1 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINSB2OBfaoF1kXcFUMvDg61RAoCAw5Dl7eH0I9O4kSBW"
#define PRINT_ED25519_1 "SHA256:qARteTb2oz7ABVRSXf/ocAxO+Pv8UOQSflvmYv1Lqv0"

#define KEY_ED25519_2 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKzHiFaM/oqwakEtnghzlus+iFpfO1myuT95Vm2xgT/R"
#define PRINT_ED25519_2 "SHA256:gRybvkxWAP4wopen6F08//tZvRov2JhV0f7R8uhtyAM"

#define KEY_ED25519_3 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIElBcL6by5R0vThznb4mjoH4+GrULZyir4qnUmkNGaSt"
#define PRINT_ED25519_3 "SHA256:iggk9qhkzepjyTYm1twFXsBJWGIGz3/YTZ8VLIDvrOo"

#define KEY_P256                                                                                           \
	"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIuvc7RnvRdUmftalAllyCHD" \
	"9pIzdp2Pma3TOYzqdyf52eszZCXx7chZ9QEeVdYwvn9CuOmPcehNGu5k3ShyIJc="
#define PRINT_P256 "SHA256:xVfyaFT3srjSAgfgvTYeFinm8zxQ8G2ZNjFdXOVhGyU"

#define KEY_P384                                                                                           \
	"ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBAXpqrhwLTOslCB1qNG9ayx/" \
	"Yi4lxkA5NyBXJ37yHY/dgaN9egwhK9F9/j5ZpCisComlPaudiyOL7xJLtfVxf4N79tComSSnWQUaxnfzqsHJSw/O+tLACxiD" \
	"++TRkIFyFg=="
#define PRINT_P384 "SHA256:5K3V9JJbrlPne7NJjuR0x+QqiitpOeLJYWdhGMDcXuY"

#define KEY_P521                                                                                           \
	"ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAA2Bf+9LaeIfaNgoFNgpBHe" \
	"1NVGzDf063/3YGHfkhuGqaxnkENOxm2tN1hNAN5nSuAKrXJztqg5Q+OPoyZjHi9tSgCwJTE2Eg/hcGcoae5W+m9mFEOHSFp1" \
	"QVJKvbTRN8gSConMoAoHNET/MYGIoqaIAEZxmMYkZ1AINq9SQ3+p9cpRPg=="
#define PRINT_P521 "SHA256:s8kFGZmrIUrvhkcUrPMOgkmdSoes7lHQS7xxW1/FsKs"

#define KEY_RSA_1024                                                                                       \
	"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDNxFTU0mdVYzbznZwdX+aOEpaBeGq0h2JZOO7zKhVXi+PHc4cIFqN06TDR" \
	"xVARN05VwmzYMHujHP86vp6fwKk+gm/ndcZwbzbYrjXNNmiglXG6leR4eRdr75e3owMiUqWli9UApPkXsbqNC+S7kK9RghQN" \
	"+sEJXCaLyj9Pp+CCfQ=="
#define PRINT_RSA_1024 "SHA256:M4M0UWSOAmNFr5lu0ilX439CqW438UE7duewjQJ21nc"

#define KEY_RSA_2048                                                                                       \
	"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCxtBWgwd7PdFfz+Jl6DLJhS/thL3ZaHYbdJzBoUTGLkf2kjGIjrbpeTF6w" \
	"DgG9MNWLtgxNzSAxMiPL7MAqEzz8NyP7s+SSVtDOQLsterXNz3vEBSuvWgjLeCJUBvYfP/f9kDv82elqZ/0PYScyUkQGNFYh" \
	"zra5VclsgVwnwbLXpDgo4faJCy3vKZy7U0aTkI+Ludl+cD+i/xyeF3Ex35LR4Qqg+mgdnVuZtq7Cq6RjKIXR8rt+8YeWtfOH" \
	"pMEy56hQCDj0bdS5lD0Lq8FPUn4uXDOt+/bcuY51YZHlo27VL6GV3W49PZJOyPpJXsr4mewhYVSKPg8HrMPWrH/1HBKb"
#define PRINT_RSA_2048 "SHA256:ehKTfuqad+AeBG9yOO7DkNDsqvoUPU8dxX29PLtK5kk"

#define KEY_RSA_3072                                                                                       \
	"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC8GMw85zWZEjsCs2GajjW/gjVlPuQLNUsKA6YSKa8HQf7vdMu5UmwH7lny" \
	"JbWQGbe4t/kBP9dWaJKLLnV1sTYSBzuMw1be5COfrLQYeykTmY/pAvDMFWIKqGdK5w/04DUMyj2AZv3q8z3S8cxGJ+hAvOaH" \
	"McA90ehGxsRmb+1WqNVs0VS0C/qUT3aBUHOgO+pG0TcB1FeWnemKHS5xkDIE2NM/nOhTxQgPhFeGQT9sTXImpVxXJsJ1Skgt" \
	"d/zJpoYnkWk8HMrTfgbEQn7jWwivGsDa+WwXFzCJC+ZYWd0bmlXff+lBOTycbLOiLM837UDc2bU4Ju6ivNFt4DnzdYHFwQyY" \
	"GjGLXUb913LTto3NOGdMaG7fs93X7G/PYMHVYTfIi1PTGIIKePL42k0OSVbcFpx4aDV81W9Tao+cATjwKYZ775GaoOrNld8I" \
	"c1D4lsh/npKgvAt1aNKKGeT3kv8+Z3jA9e1QyYGnGjjz+km4gBJ4YxLo1JNDqyMDuH+zkvM="
#define PRINT_RSA_3072 "SHA256:KZMbRZ+05HAE7GzKncKCvuFUhIGQCBpuqVldnm5RYJU"

#endif

import java.net.InetSocketAddress;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.spec.ECGenParameterSpec;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.elements.config.CertificateAuthenticationMode;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.config.UdpConfig;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.cipher.CipherSuite;
import org.eclipse.californium.scandium.dtls.pskstore.MultiPskStore;
import org.eclipse.californium.scandium.dtls.x509.SingleCertificateProvider;
import org.eclipse.californium.scandium.dtls.x509.StaticCertificateVerifier;

/**
 * The least that answers as a registration server: POST /rd gets 2.01 with a location, POST /rd/N gets 2.04, POST /dp
 * gets 2.04. Nothing is stored, nothing is logged. Words: the CoAP port, the CoAPS port, how many devices have a key,
 * and how many threads may handle records.
 */
public final class RdServer {
    private RdServer() {
    }

    public static void main(String[] words) throws Exception {
        UdpConfig.register();
        CoapConfig.register();
        DtlsConfig.register();
        int devices = Integer.parseInt(words[2]);
        int threads = Integer.parseInt(words[3]);
        Configuration configuration = new Configuration();
        configuration.set(CoapConfig.MAX_ACTIVE_PEERS, devices * 4);
        configuration.set(CoapConfig.PROTOCOL_STAGE_THREAD_COUNT, threads);
        configuration.set(DtlsConfig.DTLS_ROLE, DtlsConfig.DtlsRole.SERVER_ONLY);
        configuration.set(DtlsConfig.DTLS_MAX_CONNECTIONS, devices * 4);
        configuration.set(DtlsConfig.DTLS_CONNECTION_ID_LENGTH, 8);
        configuration.set(DtlsConfig.DTLS_RECEIVER_THREAD_COUNT, 1);
        configuration.set(DtlsConfig.DTLS_CONNECTOR_THREAD_COUNT, threads);
        configuration.set(DtlsConfig.DTLS_STALE_CONNECTION_THRESHOLD, 1, TimeUnit.SECONDS);
        configuration.set(DtlsConfig.DTLS_CLIENT_AUTHENTICATION_MODE, CertificateAuthenticationMode.NEEDED);
        configuration.setAsList(DtlsConfig.DTLS_CIPHER_SUITES, CipherSuite.TLS_PSK_WITH_AES_128_CCM_8,
                CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8);

        CoapServer server = new CoapServer(configuration);
        server.addEndpoint(CoapEndpoint.builder().setConfiguration(configuration)
                .setInetSocketAddress(new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0]))).build());
        DtlsConnectorConfig secure = DtlsConnectorConfig.builder(configuration)
                .setAddress(new InetSocketAddress("127.0.0.1", Integer.parseInt(words[1])))
                .setPskStore(keys(devices))
                .setCertificateIdentityProvider(ownKey())
                .setCertificateVerifier(StaticCertificateVerifier.builder().setTrustAllRPKs().build()).build();
        server.addEndpoint(CoapEndpoint.builder().setConfiguration(configuration)
                .setConnector(new DTLSConnector(secure)).build());
        server.add(new Rd.Directory(), new Rd.Reports());
        server.start();
        System.out.println("ready");
        System.in.read();
        System.exit(0);
    }

    private static MultiPskStore keys(int devices) throws Exception {
        MultiPskStore store = new MultiPskStore();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int number = 0; number < devices; number++) {
            String name = String.format("load-%08d", number);
            store.setKey(name, Arrays.copyOf(digest.digest(("psk " + name).getBytes("UTF-8")), 16));
        }
        return store;
    }

    private static SingleCertificateProvider ownKey() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        KeyPair pair = generator.generateKeyPair();
        return new SingleCertificateProvider(pair.getPrivate(), pair.getPublic());
    }
}
